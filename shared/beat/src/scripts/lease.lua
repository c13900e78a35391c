-- Takes the lock, or renews it. KEYS: lock, fence. ARGV: owner, milliseconds.
-- Gives {1, token} to the holder; {0, milliseconds left} to the others. Every taking has a token of its own.
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1] + 1) == ARGV[1] .. ':' then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {'1', held}
end
if held then
  return {'0', tostring(redis.call('PTTL', KEYS[1]))}
end
local token = ARGV[1] .. ':' .. redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
return {'1', token}
