-- KEYS: the owners   ARGV: this owner, milliseconds that its claim holds
-- Gives whether its claim had lapsed, then the owners whose claims have.
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local dead, lapsed = {}, 0
for _, owner in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
    if owner == ARGV[1] then lapsed = 1 else dead[#dead + 1] = owner end
end
if redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1]) == 1 then lapsed = 1 end
return {tostring(lapsed), unpack(dead)}
