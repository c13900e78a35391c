-- Settles deliveries: what follows from each and its acknowledgement happen together or not at all.
-- KEYS: unacked, unacked_index, the owner's held set
-- ARGV: how many settlements, their tags ('' when there is nothing to acknowledge), then for each settlement the number of
-- its writes, and each write as a letter and its arguments:
--   O key, seconds                      once: what comes after it is done only when the key is new, but for R and C
--   P list, text                        push a message
--   T list, tag, tail, text             take a message: into unacked, with the tail behind it, when nothing waits in the list;
--                                       else it is pushed. Without a text its entry lies in unacked already.
--   U channel, text                     publish
--   S key, seconds, text                set (0 seconds: for ever)
--   D key                               delete
--   X key, field                        delete a field of a hash
--   L index, letters, id, time, text, how many are kept     a dead letter
--   R key, seconds, text                store and announce a result, unless a SUCCESS is there
--   G key, seconds, temporary key       the same with a long result, which lies under the temporary key
--   C .j .t .s .d meta .c, id:index, encoded part, score, seconds to keep, seconds of a claim, token, redelivered (1|0)
--                                       count a chord part
--   E .c .j .t .s .d, token, seconds    end a chord; the writes after it are done only by the claim's holder
-- Gives for each: 1 done, 0 no longer this owner's (nothing was done), 2 the chord's body is the caller's to send (not
-- acknowledged yet), or the text of an error. Then for each T: 1 taken, 0 not.
local call, argv = redis.call, ARGV

-- the first field of a result, in any serializer
local SUCCESS = 'status[^%a]+SUCCESS'

-- stores and announces a result, unless a SUCCESS is there
local function result(key, seconds, text)
    local old
    if seconds == '0' then
        old = redis.pcall('SET', key, text, 'GET')
    else
        old = redis.pcall('SET', key, text, 'EX', seconds, 'GET')
    end
    if type(old) == 'table' and old.err then
        if not string.find(old.err, 'WRONGTYPE', 1, true) then error(old.err, 0) end
        -- no result: somebody else's, who loses it
        call('DEL', key)
        call('SETEX', key, seconds == '0' and 86400 or seconds, text)
        old = nil
    end
    if old and string.find(string.sub(old, 1, 32), SUCCESS) then
        call('SET', key, old, 'KEEPTTL')
    else
        call('PUBLISH', key, text)
    end
end

-- One message that Redis gave to an idle worker, with one result (acknowledged late, or early): somebody may wait for just this.
local late = argv[1] == '1' and argv[3] == '1' and argv[4] == 'R' and #argv == 7
local early = argv[1] == '2' and argv[3] == '' and argv[4] == '0' and argv[5] == '1' and argv[6] == 'R' and #argv == 9
if (late or early) and string.sub(argv[2], 1, 8) == 'fetched:' then
    local key = string.sub(KEYS[1], 1, -8) .. 'petiole:' .. argv[2]
    if call('SISMEMBER', KEYS[3], argv[2]) == 1 and call('EXISTS', key) == 1 then
        result(argv[#argv - 2], argv[#argv - 1], argv[#argv])
        call('DEL', key)
        call('SREM', KEYS[3], argv[2])
        return late and {1} or {1, 1}
    end
end

local total = tonumber(argv[1])
local asked, place = {}, {}
for i = 1, total do
    local tag = argv[1 + i]
    if tag ~= '' then
        asked[#asked + 1] = tag
        place[i] = #asked
    end
end
local held = #asked > 0 and call('SMISMEMBER', KEYS[3], unpack(asked))
-- A Python worker that gives a message back to its queue knows nothing of held sets.
local there = #asked > 0 and call('ZMSCORE', KEYS[2], unpack(asked))
-- Long messages that are not recorded yet: only their owner knows of them.
local fetched, front = {}, string.match(KEYS[1], '^(.*)unacked$')
for i, tag in ipairs(asked) do
    if not there[i] and string.sub(tag, 1, 8) == 'fetched:' then
        local key = front .. 'petiole:' .. tag
        if call('EXISTS', key) == 1 then there[i], fetched[tag] = true, key end
    end
end

-- pushes a message; gives the text of an error
local function push(list, text)
    local pushed = redis.pcall('LPUSH', list, text)
    if type(pushed) == 'table' and pushed.err then
        if not string.find(pushed.err, 'WRONGTYPE', 1, true) then error(pushed.err, 0) end
        return pushed.err
    end
end

-- may anybody listen to a channel, here or at a replica? An answer that is refused is a yes
local function is_heard(channel)
    local here, patterns = redis.pcall('PUBSUB', 'NUMSUB', channel), redis.pcall('PUBSUB', 'NUMPAT')
    if here[2] ~= 0 or patterns ~= 0 then return true end
    local replicas = redis.pcall('INFO', 'replication')
    return type(replicas) ~= 'string' or not string.find(replicas, 'connected_slaves:0', 1, true)
end

local out, acknowledged, taken, scores, answers, at = {}, {}, {}, {}, {}, 1 + total
for i = 1, total do
    local lost = place[i] and (held[place[i]] == 0 or not there[place[i]])
    local skip, status = lost and 'lost', lost and 0 or 1
    at = at + 1
    for _ = 1, tonumber(argv[at]) do
        local letter = argv[at + 1]
        if letter == 'R' then
            if not skip or skip == 'again' then
                result(argv[at + 2], argv[at + 3], argv[at + 4])
            end
            at = at + 4
        elseif letter == 'G' then
            local key, seconds, temporary = argv[at + 2], argv[at + 3], argv[at + 4]
            local start = (not skip or skip == 'again') and redis.pcall('GETRANGE', key, 0, 31)
            -- no string is no result: RENAME takes its place
            if start and not (type(start) == 'string' and string.find(start, SUCCESS)) then
                call('RENAME', temporary, key)
                if seconds == '0' then call('PERSIST', key) else call('EXPIRE', key, seconds) end
                if is_heard(key) then call('PUBLISH', key, call('GET', key)) end
            else
                call('DEL', temporary)
            end
            at = at + 4
        elseif letter == 'P' then
            if not skip then status = push(argv[at + 2], argv[at + 3]) or status end
            at = at + 3
        elseif letter == 'T' then
            local list, tag, tail, text = unpack(argv, at + 2, at + 5)
            local is_taken = 0
            if skip then
                -- a second try: what the first one took may have been given back since
                if text == '' and not call('ZSCORE', KEYS[2], tag) then call('HDEL', KEYS[1], tag) end
            elseif call('EXISTS', list) == 1 then
                if text == '' then
                    text = string.sub(call('HGET', KEYS[1], tag), 2, -#tail - 1)
                    call('HDEL', KEYS[1], tag)
                end
                status = push(list, text) or status
            else
                if text ~= '' then call('HSET', KEYS[1], tag, '[' .. text .. tail) end
                is_taken, taken[#taken + 1] = 1, tag
            end
            answers[#answers + 1] = is_taken
            at = at + 5
        elseif letter == 'O' then
            if not skip and not call('SET', argv[at + 2], '1', 'NX', 'EX', argv[at + 3]) then skip = 'again' end
            at = at + 3
        elseif letter == 'U' then
            if not skip then call('PUBLISH', argv[at + 2], argv[at + 3]) end
            at = at + 3
        elseif letter == 'S' then
            if not skip then
                if argv[at + 3] == '0' then
                    call('SET', argv[at + 2], argv[at + 4])
                else
                    call('SETEX', argv[at + 2], argv[at + 3], argv[at + 4])
                end
            end
            at = at + 4
        elseif letter == 'D' then
            if not skip then call('DEL', argv[at + 2]) end
            at = at + 2
        elseif letter == 'X' then
            if not skip then call('HDEL', argv[at + 2], argv[at + 3]) end
            at = at + 3
        elseif letter == 'L' then
            if not skip then
                local index, letters, id, time, text, kept = unpack(argv, at + 2, at + 7)
                call('ZADD', index, time, id)
                call('HSET', letters, id, text)
                local surplus = call('ZCARD', index) - tonumber(kept)
                if surplus > 0 then
                    local oldest = call('ZPOPMIN', index, surplus)
                    for k = 1, #oldest, 2 do call('HDEL', letters, oldest[k]) end
                end
            end
            at = at + 7
        elseif letter == 'C' then
            -- Celery's counting of chord parts. After the end a redelivered part counts for nothing; a fresh one belongs to
            -- a new run of the same chord, whose sender says so only before its last part.
            if not skip or skip == 'again' then
                local j, t, s, d, meta, c = unpack(argv, at + 2, at + 7)
                local seen, encoded, score, keep, claim, token, redelivered = unpack(argv, at + 8, at + 14)
                local holder = call('GET', c)
                if holder ~= 'done' or redelivered ~= '1' then
                    if holder == 'done' then call('DEL', c) end
                    if call('SADD', d, seen) == 1 then call('ZADD', j, score, encoded) end
                    for _, key in ipairs({j, t, s, d, meta}) do call('EXPIRE', key, keep) end
                    local size, added = call('GET', s), tonumber(call('GET', t) or 0)
                    if size and call('ZCARD', j) >= tonumber(size) + added then
                        if holder == token or call('SET', c, token, 'NX', 'EX', claim) then status = 2 end
                    end
                end
            end
            at = at + 14
        elseif letter == 'E' then
            if not skip then
                local c, j, t, s, d, token, seconds = unpack(argv, at + 2, at + 8)
                if call('GET', c) == token then
                    call('DEL', j, t, s, d)
                    call('SET', c, 'done', 'EX', seconds)
                else
                    skip = 'ended'
                end
            end
            at = at + 8
        else
            error('unknown write ' .. tostring(letter), 0)
        end
    end
    if place[i] and not lost and status ~= 2 then
        local tag = argv[1 + i]
        acknowledged[#acknowledged + 1] = tag
        if fetched[tag] then call('DEL', fetched[tag]) end
    end
    out[i] = status
end
if #acknowledged > 0 then
    call('ZREM', KEYS[2], unpack(acknowledged))
    call('HDEL', KEYS[1], unpack(acknowledged))
    call('SREM', KEYS[3], unpack(acknowledged))
end
if #taken > 0 then
    local now = call('TIME')
    local score = now[1] .. '.' .. string.format('%06d', now[2])
    for i = 1, #taken do scores[2 * i - 1], scores[2 * i] = score, taken[i] end
    call('ZADD', KEYS[2], unpack(scores))
    call('SADD', KEYS[3], unpack(taken))
end
for i = 1, #answers do out[total + i] = answers[i] end
return out
