-- KEYS: unacked, unacked_index, the owner's held set, then the lists in the order of service
-- ARGV: how many at most, a tag for messages without one, then for each list the tail of its unacked entry
-- Gives a flat list: delivery tag, number of the list (from 1), message, …
local room, spare = tonumber(ARGV[1]), ARGV[2]
local now = redis.call('TIME')
local score = now[1] .. '.' .. string.format('%06d', now[2])
local out = {}
for i = 4, #KEYS do
    while room > 0 do
        local message = redis.call('RPOP', KEYS[i])
        if not message then break end
        local tag = string.match(message, '.*"delivery_tag": ?"([^"\\]+)"') or spare
        -- two messages with one tag would hide one another
        local unique, n = tag, 0
        while redis.call('HEXISTS', KEYS[1], unique) == 1 do
            n = n + 1
            unique = tag .. ':' .. n
        end
        redis.call('HSET', KEYS[1], unique, '[' .. message .. ARGV[i - 1])
        redis.call('ZADD', KEYS[2], score, unique)
        redis.call('SADD', KEYS[3], unique)
        out[#out + 1] = unique
        out[#out + 1] = i - 3
        out[#out + 1] = message
        room = room - 1
    end
    if room <= 0 then break end
end
return out
