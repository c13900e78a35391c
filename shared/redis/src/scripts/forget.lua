-- Strikes tags from the books whose messages are nowhere. Into places (place.lua) something may come yet.
-- KEYS: unacked, unacked_index, a held set   ARGV: tags
for _, tag in ipairs(ARGV) do
    if string.sub(tag, 1, 8) ~= 'fetched:' and redis.call('HEXISTS', KEYS[1], tag) == 0 then
        redis.call('ZREM', KEYS[2], tag)
        redis.call('SREM', KEYS[3], tag)
    end
end
