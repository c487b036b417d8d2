-- Run once by the owner of a new database server: one login for each role of
-- Galley's processes. `galley migrate` says what the roles may do; it makes
-- them itself where they are missing and its login may.
CREATE ROLE galley_api;
CREATE ROLE galley_engine;
CREATE ROLE galley_publisher;

-- Choose other passwords for a server that others can reach.
CREATE ROLE api LOGIN PASSWORD 'galley' IN ROLE galley_api;
CREATE ROLE engine LOGIN PASSWORD 'galley' IN ROLE galley_engine;
CREATE ROLE publisher LOGIN PASSWORD 'galley' IN ROLE galley_publisher;
