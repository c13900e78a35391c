-- Claims places for an owner into which Redis may put messages by itself (BLMOVE), one each.
-- KEYS: the owners, the owner's held set   ARGV: the owner, then the places' delivery tags
local time = redis.call('TIME')
-- Who holds something is on the list of those who must say that they live. Its places are struck off by the time since then.
redis.call('ZADD', KEYS[1], 'GT', time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
redis.call('SADD', KEYS[2], unpack(ARGV, 2))
return 1
