-- Moves a message that was delivered before from its key into unacked: this goes before fetch.lua, to which the key is a list.
-- KEYS: as there, with the key as the only list   ARGV: as there, then the tag that it had so far
-- What others have restored is not there, and its tag is theirs to strike.
if redis.call('EXISTS', KEYS[4]) == 0 then return {} end
redis.call('SREM', KEYS[3], ARGV[4])
