-- Strikes places into which nothing came.
-- KEYS: unacked, the owners, the owner's held set
-- ARGV: the owner, for how many milliseconds its claim must have lapsed ('' when it says so itself), then tags
local call, lapsed = redis.call, tonumber(ARGV[2])
if lapsed then
    local time, until_ = call('TIME'), tonumber(call('ZSCORE', KEYS[2], ARGV[1]) or 0)
    if time[1] * 1000 + math.floor(time[2] / 1000) < until_ + lapsed then return end
end
for i = 3, #ARGV do
    local message, queue, key = place(ARGV[i])
    if queue and not message then
        call('DEL', key)
        call('SREM', KEYS[3], ARGV[i])
    end
end
