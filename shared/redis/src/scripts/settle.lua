-- Settles deliveries: what follows from each and its acknowledgement happen together or not at all.
-- KEYS: unacked, unacked_index, the owner's held set
-- ARGV: how many settlements, their tags ('' when there is nothing to acknowledge), how many results, their keys, then for
-- each settlement the number of its writes, and each write as a letter and its arguments:
--   O key, seconds                      once: what comes after it is done only when the key is new, but for R and C
--   P list, text                        push a message
--   U channel, text                     publish
--   S key, seconds, text                set (0 seconds: for ever)
--   D key                               delete
--   R seconds, text                     store and announce a result, unless a SUCCESS is there; its key is the next of the above
--   C .j .t .s .d meta .c, id:index, encoded part, score, seconds to keep, seconds of a claim, token, redelivered (1|0)
--                                       count a chord part
--   E .c .j .t .s .d, token, seconds    end a chord; the writes after it are done only by the claim's holder
-- Gives for each: 1 done, 0 no longer this owner's (nothing was done), 2 the chord's body is the caller's to send (not
-- acknowledged yet), or the text of an error.
local at = 0
local function take()
    at = at + 1
    return ARGV[at]
end

local tags, asked, held = {}, {}, {}
for i = 1, tonumber(take()) do
    tags[i] = take()
    if tags[i] ~= '' then asked[#asked + 1] = tags[i] end
end
if #asked > 0 then
    local found = redis.call('SMISMEMBER', KEYS[3], unpack(asked))
    for i, tag in ipairs(asked) do held[tag] = found[i] == 1 end
end

-- The first field of a result, in any serializer.
local function succeeded(text)
    return string.find(string.sub(text, 1, 32), 'status[^%a]+SUCCESS') ~= nil
end

local keys, nth, final = {}, 0, {}
for i = 1, tonumber(take()) do keys[i] = take() end
if #keys > 0 then
    for i, text in ipairs(redis.call('MGET', unpack(keys))) do
        if text and succeeded(text) then final[keys[i]] = true end
    end
end

local function set(key, seconds, text)
    if seconds == '0' then
        redis.call('SET', key, text)
    else
        redis.call('SETEX', key, seconds, text)
    end
end

-- Celery's counting of chord parts. After the end a redelivered part counts for nothing; a fresh one belongs to a new run of
-- the same chord, whose sender says so only before its last part.
local function part(j, t, s, d, meta, c, seen, encoded, score, keep, claim, token, redelivered)
    local holder = redis.call('GET', c)
    if holder == 'done' then
        if redelivered == '1' then return 1 end
        redis.call('DEL', c)
    end
    if redis.call('SADD', d, seen) == 1 then redis.call('ZADD', j, score, encoded) end
    for _, key in ipairs({j, t, s, d, meta}) do redis.call('EXPIRE', key, keep) end
    local size, added = redis.call('GET', s), tonumber(redis.call('GET', t) or 0)
    if size and redis.call('ZCARD', j) >= tonumber(size) + added then
        if holder == token or redis.call('SET', c, token, 'NX', 'EX', claim) then return 2 end
    end
    return 1
end

local writes = {}
writes.O = {2, function(key, seconds)
    return redis.call('SET', key, '1', 'NX', 'EX', seconds) and 1 or 'again'
end}
writes.P = {2, function(list, text)
    local pushed = redis.pcall('LPUSH', list, text)
    if type(pushed) == 'table' and pushed.err then
        if not string.find(pushed.err, 'WRONGTYPE', 1, true) then error(pushed.err, 0) end
        return pushed.err
    end
    return 1
end}
writes.U = {2, function(channel, text)
    redis.call('PUBLISH', channel, text)
    return 1
end}
writes.S = {3, function(key, seconds, text)
    set(key, seconds, text)
    return 1
end}
writes.D = {1, function(key)
    redis.call('DEL', key)
    return 1
end}
writes.R = {2, function(seconds, text)
    nth = nth + 1
    local key = keys[nth]
    if not final[key] then
        set(key, seconds, text)
        redis.call('PUBLISH', key, text)
        final[key] = succeeded(text)
    end
    return 1
end}
writes.C = {13, part}
writes.E = {7, function(c, j, t, s, d, token, seconds)
    if redis.call('GET', c) ~= token then return 'ended' end
    redis.call('DEL', j, t, s, d)
    redis.call('SET', c, 'done', 'EX', seconds)
    return 1
end}

local out, acknowledged = {}, {}
for i, tag in ipairs(tags) do
    local lost = tag ~= '' and not held[tag]
    local skip, status = lost and 'lost', lost and 0 or 1
    for _ = 1, tonumber(take()) do
        local letter = take()
        local write = writes[letter]
        local first = at + 1
        at = at + write[1]
        if skip and not (skip == 'again' and (letter == 'R' or letter == 'C')) then
            if letter == 'R' then nth = nth + 1 end
        else
            local told = write[2](unpack(ARGV, first, at))
            if told == 'again' or told == 'ended' then
                skip = told
            elseif told ~= 1 then
                status = told
            end
        end
    end
    if tag ~= '' and not lost and status ~= 2 then acknowledged[#acknowledged + 1] = tag end
    out[i] = status
end
if #acknowledged > 0 then
    redis.call('ZREM', KEYS[2], unpack(acknowledged))
    redis.call('HDEL', KEYS[1], unpack(acknowledged))
    redis.call('SREM', KEYS[3], unpack(acknowledged))
end
return out
