-- Moves messages from their lists into unacked.
-- KEYS: unacked, unacked_index, the owner's held set, then the lists in the order of service
-- ARGV: how many at most, a tag for messages without one, then for each list the tail of its unacked entry
-- Gives a flat list: delivery tag, number of the list (from 1), message, …
local call, room, spare = redis.call, tonumber(ARGV[1]), ARGV[2]
-- Of plain signs only: a tag that is no text could be read by nobody, and with it nothing that was fetched together with it.
-- Tied to the beginning: tried from every place of a long message without a tag, it would keep Redis busy for minutes.
local pattern = '^.*"delivery_tag": ?"([^"\\%c\128-\255]+)"'
local out, tags, fields, n, again = {}, {}, {}, 0, false
for i = 4, #KEYS do
    if room <= 0 then break end
    local messages = call('RPOP', KEYS[i], room)
    if messages then
        for _, message in ipairs(messages) do
            -- the last one in the text, and the text is long
            local tag = string.match(string.sub(message, -120), pattern) or string.match(message, pattern) or spare
            n = n + 1
            tags[n] = tag
            -- a plain search of the end, where the properties are: a pattern would cost more than all the rest
            again = again or string.find(message, 'redelivered', -1024, true)
            fields[2 * n - 1], fields[2 * n] = tag, '[' .. message .. ARGV[i - 1]
            out[3 * n - 2], out[3 * n - 1], out[3 * n] = tag, i - 3, message
        end
        room = room - #messages
    end
end
if n > 0 then
    local now = call('TIME')
    local score = now[1] .. '.' .. string.format('%06d', now[2])
    -- A small sorted set is a list, through which each ZADD reads scores as text. A member that is too long for one (64 bytes;
    -- zset-max-listpack-value) makes it a tree, and that it stays.
    local scores, found, long = {}, n, n > 2 and string.rep('-', 256)
    if long then scores[1], scores[2], found = score, long, n + 1 end
    for i = 1, n do
        scores[#scores + 1] = score
        scores[#scores + 1] = tags[i]
    end
    local added = call('ZADD', KEYS[2], 'NX', unpack(scores))
    if long then call('ZREM', KEYS[2], long) end
    if added < found then
        -- two messages with one tag would hide one another
        local seen = {}
        for i = 1, n do
            local unique, more = tags[i], 0
            while seen[unique] or call('HEXISTS', KEYS[1], unique) == 1 do
                more = more + 1
                unique = tags[i] .. ':' .. more
            end
            seen[unique] = true
            tags[i], fields[2 * i - 1], out[3 * i - 2] = unique, unique, unique
            call('ZADD', KEYS[2], score, unique)
        end
    end
    call('HSET', KEYS[1], unpack(fields))
    local front, owner = string.match(KEYS[3], '^(.*petiole:)held:(.*)$')
    -- Who holds something is on the list of those who must say that they live, also after it was struck off.
    call('ZADD', front .. 'owners', 'NX', 0, owner)
    if again then
        -- Whoever had one of these before and is only slow, or another's restore took it from: it is this owner's now.
        for _, other in ipairs(call('ZRANGE', front .. 'owners', 0, -1)) do
            call('SREM', front .. 'held:' .. other, unpack(tags))
        end
    end
    call('SADD', KEYS[3], unpack(tags))
end
return out
