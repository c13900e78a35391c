-- KEYS: the binding set, the deadlines   ARGV: member, exchange, milliseconds until it may be swept
redis.call('SADD', KEYS[1], ARGV[1])
local now = redis.call('TIME')
local deadline = now[1] * 1000 + math.floor(now[2] / 1000) + tonumber(ARGV[3])
redis.call('ZADD', KEYS[2], 'GT', deadline, ARGV[2])
return 1
