-- Strikes tags from the books whose messages are no longer in unacked.
-- KEYS: unacked, unacked_index, a held set   ARGV: tags
for _, tag in ipairs(ARGV) do
    if redis.call('HEXISTS', KEYS[1], tag) == 0 then
        redis.call('ZREM', KEYS[2], tag)
        redis.call('SREM', KEYS[3], tag)
    end
end
