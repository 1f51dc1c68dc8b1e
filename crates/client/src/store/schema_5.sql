-- The words of all messages. The bodies stay where they are; triggers keep the index as they come, change and go.
CREATE VIRTUAL TABLE search USING fts5 (
    body, content = 'messages', content_rowid = 'local', tokenize = 'unicode61 remove_diacritics 2'
);

-- What was deleted is not in the index's pages any more either.
INSERT INTO search (search, rank) VALUES ('secure-delete', 1);

CREATE TRIGGER search_added AFTER INSERT ON messages BEGIN
    INSERT INTO search (rowid, body) VALUES (new.local, new.body);
END;

CREATE TRIGGER search_removed AFTER DELETE ON messages BEGIN
    INSERT INTO search (search, rowid, body) VALUES ('delete', old.local, old.body);
END;

CREATE TRIGGER search_changed AFTER UPDATE OF body ON messages WHEN old.body IS NOT new.body BEGIN
    INSERT INTO search (search, rowid, body) VALUES ('delete', old.local, old.body);
    INSERT INTO search (rowid, body) VALUES (new.local, new.body);
END;

-- What is there already.
INSERT INTO search (search) VALUES ('rebuild');
