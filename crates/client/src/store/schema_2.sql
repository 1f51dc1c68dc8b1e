-- What was saved when a damaged file was replaced by this one, as JSON, until the application has taken note of it.
ALTER TABLE account ADD COLUMN recovery TEXT;

-- A person may have read further than this file has taken in again after a loss: only what is here is marked.
DROP INDEX conversations_to_mark;
CREATE INDEX conversations_to_mark ON conversations (id)
    WHERE delivered > delivered_told OR (read > read_told AND cursor > read_told);
