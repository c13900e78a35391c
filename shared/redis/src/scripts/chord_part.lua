-- KEYS: .j parts, .t added, .s size, .d ids seen, group meta, .c claim
-- ARGV: id:index, encoded part, score, ordered (1|0), seconds to keep, seconds of a claim, token
-- Gives {count, added, size, claimed}, or {-1} for a part that came after the end.
if redis.call('GET', KEYS[6]) == 'done' then
    return {-1}
end
if redis.call('SADD', KEYS[4], ARGV[1]) == 1 then
    if ARGV[4] == '1' then
        redis.call('ZADD', KEYS[1], ARGV[3], ARGV[2])
    else
        redis.call('RPUSH', KEYS[1], ARGV[2])
    end
end
local count
if ARGV[4] == '1' then
    count = redis.call('ZCOUNT', KEYS[1], '-inf', '+inf')
else
    count = redis.call('LLEN', KEYS[1])
end
for i = 1, 5 do
    redis.call('EXPIRE', KEYS[i], ARGV[5])
end
local size, added = redis.call('GET', KEYS[3]), tonumber(redis.call('GET', KEYS[2]) or 0)
local claimed = 0
if size and count >= tonumber(size) + added then
    if redis.call('SET', KEYS[6], ARGV[7], 'NX', 'EX', ARGV[6]) then
        claimed = 1
    end
end
return {count, added, tonumber(size or -1), claimed}
