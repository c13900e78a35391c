-- KEYS: dead letters' index, dead letters, counts of redeliveries, the list   ARGV: id, message
-- Whoever takes the letter out sends it: two who try send it once.
redis.call('ZREM', KEYS[1], ARGV[1])
if redis.call('HDEL', KEYS[2], ARGV[1]) == 0 then
    return 0
end
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('LPUSH', KEYS[4], ARGV[2])
return 1
