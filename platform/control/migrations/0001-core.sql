-- The core of the control plane: orgs, their tokens and databases, and who did what to them.
--
-- Whatever the proxy caches of a tenant is announced on the channel `ogel_tenant` by triggers, in the transaction that
-- changes it, so that no writer can forget to.

CREATE TABLE org (
  org_id                text        PRIMARY KEY CHECK (org_id ~ '^org_[a-z2-7]{6,40}$'),
  name                  text        NOT NULL CHECK (length(name) BETWEEN 1 AND 80),
  tier                  text        NOT NULL CHECK (tier IN ('FREE', 'STARTER', 'PRO', 'ENTERPRISE')),
  status                text        NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
  -- One salt and iteration count for all tokens of the org, so that a login's proof can be checked against each.
  scram_salt            bytea       NOT NULL CHECK (octet_length(scram_salt) BETWEEN 16 AND 64),
  scram_iterations      integer     NOT NULL CHECK (scram_iterations BETWEEN 4096 AND 1000000),
  -- What a contract changed of the tier's limits; null leaves the tier's own.
  connections_override  integer     CHECK (connections_override BETWEEN 1 AND 10000),
  limit_qps_override    integer     CHECK (limit_qps_override BETWEEN 1 AND 1000000),
  -- Why usage stops this org, as a sentence for its people; null while nothing does.
  over_usage            text        CHECK (length(over_usage) BETWEEN 1 AND 500),
  -- Which derivation of the upstream password its roles have.
  credential_generation integer     NOT NULL DEFAULT 1 CHECK (credential_generation >= 1),
  created_at            timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX org_by_age ON org (created_at, org_id);

CREATE TABLE token (
  token_id   text        PRIMARY KEY CHECK (token_id ~ '^tok_[a-z2-7]{6,40}$'),
  org_id     text        NOT NULL REFERENCES org,
  -- The first characters of the secret, by which people tell their tokens apart.
  prefix     text        NOT NULL CHECK (length(prefix) BETWEEN 1 AND 16),
  sha256     bytea       NOT NULL UNIQUE CHECK (octet_length(sha256) = 32),
  stored_key bytea       NOT NULL CHECK (octet_length(stored_key) = 32),
  server_key bytea       NOT NULL CHECK (octet_length(server_key) = 32),
  created_at timestamptz NOT NULL DEFAULT now(),
  revoked_at timestamptz
);

CREATE INDEX token_of_org ON token (org_id) WHERE revoked_at IS NULL;

CREATE TABLE database (
  database_id    text        PRIMARY KEY CHECK (database_id ~ '^db_[a-z2-7]{6,40}$'),
  org_id         text        NOT NULL REFERENCES org,
  name           text        NOT NULL CHECK (name ~ '^[a-z][a-z0-9_-]{0,39}$'),
  branch         text        CHECK (branch ~ '^[a-z][a-z0-9_-]{0,39}$'),
  kind           text        NOT NULL CHECK (kind IN ('postgres', 'neon', 'redis', 'mongodb', 'convex')),
  status         text        NOT NULL CHECK (status IN ('provisioning', 'ready', 'failed', 'dropping')),
  -- Where it was placed, in the shape of `Endpoint`. It is decided before anything is made there, so that
  -- whoever takes over knows where to look.
  endpoint       jsonb       CHECK (endpoint ->> 'via' IN ('shared', 'compute')),
  -- What went wrong last, for people.
  failure_reason text        CHECK (length(failure_reason) BETWEEN 1 AND 1000),
  created_at     timestamptz NOT NULL DEFAULT now(),
  -- A dropped database keeps its row, because usage refers to it; its id is never used again.
  dropped_at     timestamptz,
  CHECK (status <> 'ready' OR endpoint IS NOT NULL),
  CHECK (dropped_at IS NULL OR status = 'dropping'),
  CHECK (branch IS NULL OR kind = 'neon')
);

CREATE UNIQUE INDEX database_address ON database (org_id, name, coalesce(branch, ''))
  WHERE dropped_at IS NULL;
CREATE INDEX database_unfinished ON database (created_at)
  WHERE dropped_at IS NULL AND status IN ('provisioning', 'dropping');

-- Who did what. Rows are only ever added.
CREATE TABLE audit_log (
  audit_id   bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at         timestamptz NOT NULL DEFAULT now(),
  -- Who acted, e.g. `operator`, and the request by which.
  actor      text        NOT NULL CHECK (length(actor) BETWEEN 1 AND 80),
  request_id text        CHECK (length(request_id) BETWEEN 1 AND 80),
  -- What was done, e.g. `org.suspend`, to which org and to what of it.
  action     text        NOT NULL CHECK (action ~ '^[a-z_]+\.[a-z_]+$'),
  org_id     text        NOT NULL REFERENCES org,
  subject    text        NOT NULL CHECK (length(subject) BETWEEN 1 AND 80),
  details    jsonb       NOT NULL DEFAULT '{}'
);

CREATE INDEX audit_of_org ON audit_log (org_id, audit_id);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'rows of % are kept as they were written', TG_TABLE_NAME;
END
$$;

CREATE TRIGGER audit_log_is_append_only BEFORE UPDATE OR DELETE ON audit_log
  FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE FUNCTION announce_tenant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('ogel_tenant', CASE WHEN TG_OP = 'DELETE' THEN OLD.org_id ELSE NEW.org_id END);
  RETURN NULL;
END
$$;

CREATE TRIGGER org_announces AFTER INSERT OR UPDATE OR DELETE ON org
  FOR EACH ROW EXECUTE FUNCTION announce_tenant();
CREATE TRIGGER token_announces AFTER INSERT OR UPDATE OR DELETE ON token
  FOR EACH ROW EXECUTE FUNCTION announce_tenant();
CREATE TRIGGER database_announces AFTER INSERT OR UPDATE OR DELETE ON database
  FOR EACH ROW EXECUTE FUNCTION announce_tenant();
