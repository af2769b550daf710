CREATE TABLE votes (id uuid PRIMARY KEY, choice text NOT NULL, counted_at timestamptz NOT NULL DEFAULT now());
GRANT SELECT, INSERT ON votes TO votes;
