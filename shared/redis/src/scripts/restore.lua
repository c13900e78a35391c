-- KEYS: unacked, unacked_index, the holder's held set, the owners, then for each message the list it goes to
-- ARGV: RPUSH (next to be served) or LPUSH (last in line); '' for what the holder still has, or a time in seconds, for what was
-- delivered or renewed no later, whoever has it; then for each message its tag and the message
-- A message that was settled or restored by another, or is another's by now, is not pushed again.
local call, limit = redis.call, tonumber(ARGV[2])
local holders = {KEYS[3]}
if limit then
    local front = string.match(KEYS[3], '^(.*petiole:held:)')
    for _, owner in ipairs(call('ZRANGE', KEYS[4], 0, -1)) do holders[#holders + 1] = front .. owner end
end
local pushed = 0
for i = 5, #KEYS do
    local tag, message = ARGV[2 * (i - 4) + 1], ARGV[2 * (i - 4) + 2]
    record(tag)
    local due
    if limit then
        local score = call('ZSCORE', KEYS[2], tag)
        due = score and tonumber(score) <= limit
    else
        due = call('SISMEMBER', KEYS[3], tag) == 1
    end
    if due then
        for _, held in ipairs(holders) do call('SREM', held, tag) end
        call('ZREM', KEYS[2], tag)
        if call('HDEL', KEYS[1], tag) == 1 then
            call(ARGV[1], KEYS[i], message)
            pushed = pushed + 1
        end
    end
end
return pushed
