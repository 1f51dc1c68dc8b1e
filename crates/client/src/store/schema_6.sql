-- Everything after this number and up to the cursor has been taken in; 0 from the beginning on. NULL while nothing is.
ALTER TABLE conversations ADD COLUMN oldest INTEGER;
UPDATE conversations SET oldest = 0 WHERE cursor > 0;
