-- KEYS: the result's key   ARGV: seconds it is kept (0: for ever), the JSON text, the channel
-- A stored SUCCESS is never overwritten. Gives 1 when it was stored.
local head = redis.call('GETRANGE', KEYS[1], 0, 24)
if string.match(head, '^{"status": ?"SUCCESS"') then
    return 0
end
if ARGV[1] == '0' then
    redis.call('SET', KEYS[1], ARGV[2])
else
    redis.call('SETEX', KEYS[1], ARGV[1], ARGV[2])
end
redis.call('PUBLISH', ARGV[3], ARGV[2])
return 1
