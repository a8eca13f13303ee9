-- Usage: what writers (O7s workers, compute hosts) have counted, applied exactly once.
--
-- A writer reports totals since it began, under an id that is never used twice. `usage_total` holds what has been applied
-- of each, so a report that arrives again adds nothing; the difference goes to the hour in which it was counted.

CREATE TABLE usage_writer (
  writer_id       text PRIMARY KEY CHECK (length(writer_id) BETWEEN 1 AND 80),
  service         text NOT NULL,
  started_at      timestamptz NOT NULL DEFAULT now(),
  seen_at         timestamptz NOT NULL DEFAULT now(),
  -- Set with a writer's last report; whatever comes under its id afterwards has been applied before.
  closed_at       timestamptz,
  -- The highest flush request that it has answered.
  flushed_request bigint NOT NULL DEFAULT 0
);

CREATE TABLE usage_total (
  writer_id      text   NOT NULL REFERENCES usage_writer,
  database_id    text   NOT NULL,
  queries        bigint NOT NULL DEFAULT 0 CHECK (queries >= 0),
  rows           bigint NOT NULL DEFAULT 0 CHECK (rows >= 0),
  bytes_in       bigint NOT NULL DEFAULT 0 CHECK (bytes_in >= 0),
  bytes_out      bigint NOT NULL DEFAULT 0 CHECK (bytes_out >= 0),
  busy_micros    bigint NOT NULL DEFAULT 0 CHECK (busy_micros >= 0),
  compute_millis bigint NOT NULL DEFAULT 0 CHECK (compute_millis >= 0),
  PRIMARY KEY (writer_id, database_id)
);

CREATE TABLE usage_hourly (
  org_id         text        NOT NULL,
  database_id    text        NOT NULL,
  hour           timestamptz NOT NULL,
  queries        bigint NOT NULL DEFAULT 0,
  rows           bigint NOT NULL DEFAULT 0,
  bytes_in       bigint NOT NULL DEFAULT 0,
  bytes_out      bigint NOT NULL DEFAULT 0,
  busy_micros    bigint NOT NULL DEFAULT 0,
  compute_millis bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (org_id, hour, database_id)
);

-- Numbers the requests by which a reader asks all writers to report before it reads.
CREATE SEQUENCE usage_flush_request;
