"""A PostgreSQL cluster with one of everything that a backup has to bring back."""

from __future__ import annotations

from sheetanchor.components.postgres.scratch import ScratchServer
from support.postgres import run_sql

ODD_DATABASE = 'odd/"näme" 100%\\x'

ROLES = r"""
CREATE ROLE app_owner LOGIN PASSWORD 'owner-secret' CONNECTION LIMIT 17;
CREATE ROLE "reader ü""x" NOLOGIN;
CREATE ROLE reporting LOGIN PASSWORD 'reporting-secret' VALID UNTIL '2040-01-02 03:04:05+00' NOINHERIT;
CREATE ROLE admin_group CREATEROLE CREATEDB;
CREATE ROLE bypass BYPASSRLS REPLICATION;
GRANT "reader ü""x" TO reporting WITH ADMIN OPTION;
GRANT admin_group TO app_owner;
GRANT pg_read_all_settings TO reporting;
ALTER ROLE reporting SET statement_timeout = '45s';
ALTER ROLE reporting SET search_path = "Odd schema", public;
COMMENT ON ROLE reporting IS 'reads; it''s "only" reading';
ALTER ROLE ALL SET lock_timeout = '77s';
GRANT SET ON PARAMETER log_min_duration_statement TO reporting WITH GRANT OPTION;
GRANT ALTER SYSTEM, SET ON PARAMETER "app.thing" TO admin_group;
CREATE DATABASE app OWNER app_owner;
CREATE DATABASE "odd/""näme"" 100%\x" ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
COMMENT ON DATABASE app IS 'the application''s data';
ALTER DATABASE app SET search_path = "$user", "Schéma öne", public;
ALTER DATABASE app SET work_mem = '7MB';
ALTER DATABASE app SET "app.custom" = 'back\slash and ''quote''';
ALTER ROLE reporting IN DATABASE app SET default_transaction_read_only = on;
ALTER DATABASE app CONNECTION LIMIT 33;
REVOKE CONNECT, TEMP ON DATABASE app FROM PUBLIC;
GRANT CONNECT ON DATABASE app TO reporting WITH GRANT OPTION;
GRANT TEMP ON DATABASE app TO admin_group;
SET SESSION AUTHORIZATION reporting;
GRANT CONNECT ON DATABASE app TO "reader ü""x";
RESET SESSION AUTHORIZATION;
"""

APP = r"""
CREATE EXTENSION citext;
CREATE EXTENSION hstore;
CREATE SCHEMA "Schéma öne" AUTHORIZATION app_owner;
CREATE SCHEMA "Odd schema";
GRANT USAGE ON SCHEMA "Schéma öne" TO reporting;
SET search_path = "Schéma öne", public;
SET ROLE app_owner;
ALTER DEFAULT PRIVILEGES IN SCHEMA "Schéma öne" GRANT SELECT ON TABLES TO reporting;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE TABLE customers (
    id integer GENERATED ALWAYS AS IDENTITY (START 100 INCREMENT 5) PRIMARY KEY,
    email public.citext UNIQUE NOT NULL,
    "Größe" positive DEFAULT 1,
    mood mood NOT NULL DEFAULT 'ok',
    tags public.hstore,
    data jsonb,
    area numeric GENERATED ALWAYS AS ("Größe" * 2.5) STORED
);
CREATE TABLE orders (
    id bigserial, customer integer NOT NULL REFERENCES customers ON DELETE CASCADE,
    placed date NOT NULL, amount numeric(12, 2), PRIMARY KEY (id, placed)
) PARTITION BY RANGE (placed);
CREATE TABLE orders_2025 PARTITION OF orders FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE orders_2026 PARTITION OF orders FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
    PARTITION BY HASH (id);
CREATE TABLE orders_2026_a PARTITION OF orders_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE orders_2026_b PARTITION OF orders_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE orders_rest PARTITION OF orders DEFAULT;
CREATE UNLOGGED TABLE scratchpad (id int, raw bytea);
CREATE TABLE parent (id int); CREATE TABLE child (extra text) INHERITS (parent);
CREATE TABLE secret (owner name DEFAULT current_user, body text);
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE secret FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON secret USING (owner = current_user) WITH CHECK (owner = current_user);
CREATE TABLE audit (at timestamptz DEFAULT now(), what text);
CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN INSERT INTO "Schéma öne".audit (what) VALUES (TG_OP || ' ' || TG_TABLE_NAME); RETURN NEW; END $body$;
CREATE TRIGGER changes AFTER INSERT OR UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER "off" AFTER DELETE ON customers FOR EACH ROW EXECUTE FUNCTION note_change();
ALTER TABLE customers DISABLE TRIGGER "off";
CREATE PROCEDURE nothing(INOUT x int) LANGUAGE sql AS 'SELECT x + 1';
CREATE VIEW happy AS SELECT id, email FROM customers WHERE mood = 'happy' WITH CASCADED CHECK OPTION;
CREATE RULE no_delete AS ON DELETE TO secret DO INSTEAD NOTHING;
CREATE INDEX orders_amount ON orders (amount) WHERE amount > 10;
CREATE INDEX customers_lower ON customers (lower(email::text));
CREATE STATISTICS some_statistics (dependencies) ON id, "Größe" FROM customers;
INSERT INTO customers (email, "Größe", mood, tags, data)
    SELECT 'Person' || n || '@example.org', n, (ARRAY['sad', 'ok', 'happy'])[1 + n % 3]::mood,
           public.hstore('n', n::text), jsonb_build_object('n', n, 'text', E'tab\tnewline\nback\\slash')
    FROM generate_series(1, 300) n;
INSERT INTO orders (customer, placed, amount)
    SELECT 100 + 5 * (n % 300), date '2024-12-01' + n, n * 1.25 FROM generate_series(1, 900) n;
INSERT INTO scratchpad SELECT n, decode(repeat('00ff', 50), 'hex') FROM generate_series(1, 10) n;
INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (3, 'x');
INSERT INTO secret (body) VALUES ('mine');
RESET ROLE;
INSERT INTO secret (owner, body) VALUES ('reporting', 'theirs');
CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(amount) FROM orders GROUP BY customer;
CREATE MATERIALIZED VIEW empty_totals AS SELECT 1 AS one WITH NO DATA;
CREATE UNIQUE INDEX totals_customer ON totals (customer);
COMMENT ON TABLE customers IS E'people; with ''quotes'' and\nlines';
COMMENT ON COLUMN customers."Größe" IS 'größer';
GRANT SELECT (id, email), UPDATE (email) ON customers TO "reader ü""x";
GRANT SELECT ON happy TO PUBLIC;
"""

MORE = r"""
CREATE PUBLICATION everything FOR TABLE "Schéma öne".customers;
CREATE COLLATION german (provider = libc, locale = 'C');
CREATE SEQUENCE "Odd schema".counter START 5 INCREMENT -3 MINVALUE -100 MAXVALUE 10 CYCLE;
SELECT nextval('"Odd schema".counter'), nextval('"Odd schema".counter');
CREATE TABLE "Odd schema"."tab""le.with dots" ("co""l" text COLLATE german);
INSERT INTO "Odd schema"."tab""le.with dots" VALUES ('ä'), (NULL), ('');
SELECT lo_from_bytea(4711, decode(repeat('deadbeef', 3000), 'hex'));
SELECT lo_from_bytea(4712, 'small');
COMMENT ON LARGE OBJECT 4711 IS 'a picture';
ALTER LARGE OBJECT 4712 OWNER TO app_owner;
GRANT SELECT ON LARGE OBJECT 4711 TO reporting;
CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere OPTIONS (host 'x');
CREATE FUNCTION public.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION public.on_ddl();
CREATE CAST (text AS "Schéma öne".mood) WITH INOUT;
CREATE AGGREGATE public.product(numeric) (SFUNC = numeric_mul, STYPE = numeric, INITCOND = '1');
"""


def fill(server: ScratchServer) -> None:
    """Create roles, databases and contents of every kind."""
    run_sql(server, "postgres", ROLES)
    run_sql(server, "app", APP + MORE)
    run_sql(server, ODD_DATABASE, 'CREATE TABLE "tä/b" AS SELECT generate_series(1, 42) AS n;')
    run_sql(server, "latin", "DROP SCHEMA public; CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 'é' AS letter;")
    # The wheel of 18 is built without ICU; 15 has no builtin provider.
    provider = "builtin BUILTIN_LOCALE 'C.UTF-8'" if server.tools.major >= 17 else "icu ICU_LOCALE 'de'"
    run_sql(server, "postgres", f"CREATE DATABASE collated TEMPLATE template0 LOCALE_PROVIDER {provider};")
    run_sql(server, "postgres", "CREATE TABLE kept_in_postgres AS SELECT 1 AS one;")
    run_sql(server, "template1", "CREATE EXTENSION citext;")
