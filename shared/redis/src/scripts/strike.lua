-- Strikes places into which nothing came.
-- KEYS: unacked, the owners, the owner's held set
-- ARGV: the owner, for how many milliseconds its claim must have lapsed ('' when it says so itself), then tags
local call, lapsed = redis.call, tonumber(ARGV[2])
if lapsed then
    local time, ended = call('TIME'), tonumber(call('ZSCORE', KEYS[2], ARGV[1]) or 0)
    if time[1] * 1000 + math.floor(time[2] / 1000) < ended + lapsed then return end
end
for i = 3, #ARGV do
    local message, queue = place(ARGV[i])
    if queue and not message and call('HEXISTS', KEYS[1], ARGV[i]) == 0 then call('SREM', KEYS[3], ARGV[i]) end
end
