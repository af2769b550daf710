"""One merged model to what takes part and what the runtime takes: implied parts, rules, profiles, the `Project`."""
