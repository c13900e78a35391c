-- KEYS: unacked, unacked_index, a held set, then for each message the list it goes to
-- ARGV: RPUSH (next to be served) or LPUSH (last in line), then for each message its tag and the message
-- A message that is no longer in unacked was settled or restored by another: it is not pushed again.
local pushed = 0
for i = 4, #KEYS do
    local tag, message = ARGV[2 * (i - 3)], ARGV[2 * (i - 3) + 1]
    redis.call('ZREM', KEYS[2], tag)
    redis.call('SREM', KEYS[3], tag)
    if redis.call('HDEL', KEYS[1], tag) == 1 then
        redis.call(ARGV[1], KEYS[i], message)
        pushed = pushed + 1
    end
end
return pushed
