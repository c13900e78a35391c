-- Strikes tags from the books whose messages are nowhere: a place into which nothing came is still waited for.
-- KEYS: unacked, unacked_index, a held set   ARGV: tags
for _, tag in ipairs(ARGV) do
    local _, queue = place(tag)
    if not queue and redis.call('HEXISTS', KEYS[1], tag) == 0 then
        redis.call('ZREM', KEYS[2], tag)
        redis.call('SREM', KEYS[3], tag)
    end
end
