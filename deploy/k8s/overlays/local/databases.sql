-- Each service has a database of its own; `call_tracker` is made by POSTGRES_DB.
CREATE DATABASE number_sync;
