-- From which networks clients may come to a database; none listed means from everywhere.
--
-- The trigger on `database` announces a change to the proxies.

ALTER TABLE database
  ADD COLUMN allowed_networks cidr[] NOT NULL DEFAULT '{}'
    CHECK (cardinality(allowed_networks) <= 100 AND array_position(allowed_networks, NULL) IS NULL);
