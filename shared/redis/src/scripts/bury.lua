-- KEYS: the owners, the held set of one of them   ARGV: that owner
-- One that holds nothing is forgotten.
if redis.call('SCARD', KEYS[2]) == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
