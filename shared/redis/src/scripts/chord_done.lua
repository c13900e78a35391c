-- KEYS: .c claim, .j parts, .t added, .s size, .d ids seen   ARGV: token, seconds to remember the end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5])
redis.call('SET', KEYS[1], 'done', 'EX', ARGV[2])
return 1
