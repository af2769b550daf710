#!/bin/sh
# The start of the image "wordpress": WordPress is put into the working directory unless it is there, with a wp-config.php
# that takes WORDPRESS_* from the environment and from WORDPRESS_*_FILE; then the command.
set -e

if [ "$1" = apache2-foreground ]; then
	if [ ! -e wp-includes/version.php ]; then
		cp -RL /usr/share/wordpress/. .
		rm -f wp-config.php
		chown -R www-data:www-data .
	fi
	if [ ! -e wp-config.php ]; then
		{
			cat <<'END'
<?php
function of_environment($name, $else) {
    $file = getenv("WORDPRESS_{$name}_FILE");
    if ($file) return rtrim(file_get_contents($file), "\r\n");
    $value = getenv("WORDPRESS_$name");
    return $value === false ? $else : $value;
}
define('DB_NAME', of_environment('DB_NAME', 'wordpress'));
define('DB_USER', of_environment('DB_USER', 'wordpress'));
define('DB_PASSWORD', of_environment('DB_PASSWORD', ''));
define('DB_HOST', of_environment('DB_HOST', 'mysql'));
define('DB_CHARSET', of_environment('DB_CHARSET', 'utf8'));
define('DB_COLLATE', of_environment('DB_COLLATE', ''));
define('WP_DEBUG', !!of_environment('DEBUG', ''));
$table_prefix = of_environment('TABLE_PREFIX', 'wp_');
END
			for key in AUTH_KEY SECURE_AUTH_KEY LOGGED_IN_KEY NONCE_KEY AUTH_SALT SECURE_AUTH_SALT LOGGED_IN_SALT NONCE_SALT; do
				random=$(head -c 48 /dev/urandom | sha256sum)
				echo "define('$key', of_environment('$key', '${random%% *}'));"
			done
			cat <<'END'
if (($_SERVER['HTTP_X_FORWARDED_PROTO'] ?? '') === 'https') $_SERVER['HTTPS'] = 'on';
if ($extra = of_environment('CONFIG_EXTRA', '')) eval($extra);
if (!defined('ABSPATH')) define('ABSPATH', __DIR__ . '/');
require_once ABSPATH . 'wp-settings.php';
END
		} >wp-config.php.new
		chown www-data:www-data wp-config.php.new
		chmod 0640 wp-config.php.new
		mv wp-config.php.new wp-config.php
	fi
fi
exec "$@"
