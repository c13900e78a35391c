-- Moves messages from their lists into unacked.
-- KEYS: unacked, unacked_index, the owner's held set, then the lists in the order of service
-- ARGV: how many at most, a tag for messages without one, then for each list the tail of its unacked entry
-- Gives whether the lists are empty now, then a flat list: delivery tag, number of the list (from 1), message, …
local room, spare = tonumber(ARGV[1]), ARGV[2]
local pattern = '.*"delivery_tag": ?"([^"\\]+)"'
local out, tags, lists, tails = {1}, {}, {}, {}
for i = 4, #KEYS do
    if room <= 0 then break end
    for _, message in ipairs(redis.call('RPOP', KEYS[i], room) or {}) do
        -- the last one in the text, and the text is long
        local tag = string.match(string.sub(message, -160), pattern) or string.match(message, pattern) or spare
        local n = #tags + 1
        tags[n], lists[n], tails[n] = tag, message, ARGV[i - 1]
        out[3 * n - 1], out[3 * n], out[3 * n + 1] = tag, i - 3, message
        room = room - 1
    end
end
if #tags > 0 then
    -- two messages with one tag would hide one another
    local there, seen = redis.call('HMGET', KEYS[1], unpack(tags)), {}
    local now = redis.call('TIME')
    local score = now[1] .. '.' .. string.format('%06d', now[2])
    local fields, scores = {}, {}
    for n, tag in ipairs(tags) do
        local unique, more = tag, 0
        local taken = there[n] or seen[tag]
        while taken do
            more = more + 1
            unique = tag .. ':' .. more
            taken = seen[unique] or redis.call('HEXISTS', KEYS[1], unique) == 1
        end
        seen[unique] = true
        tags[n], out[3 * n - 1] = unique, unique
        fields[2 * n - 1], fields[2 * n] = unique, '[' .. lists[n] .. tails[n]
        scores[2 * n - 1], scores[2 * n] = score, unique
    end
    redis.call('HSET', KEYS[1], unpack(fields))
    redis.call('ZADD', KEYS[2], unpack(scores))
    redis.call('SADD', KEYS[3], unpack(tags))
end
if room > 0 then
    -- reading them asks Redis to tell when they change (CLIENT TRACKING)
    local there = redis.call('EXISTS', unpack(KEYS, 4))
    if there > 0 then out[1] = 0 end
else
    out[1] = 0
end
return out
