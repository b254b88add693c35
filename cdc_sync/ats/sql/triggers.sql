CREATE TRIGGER {row} AFTER INSERT OR UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE PROCEDURE cdc_sync.{function}({number});
CREATE TRIGGER {truncate} AFTER TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE PROCEDURE cdc_sync.{function}({number});
COMMENT ON TRIGGER {row} ON {table} IS {comment};
COMMENT ON TRIGGER {truncate} ON {table} IS {comment};
