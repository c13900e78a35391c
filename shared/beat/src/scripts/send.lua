-- Sends what is due and notes that it was sent, both or neither.
-- KEYS: lock, entries, list, sent, binding, queues. ARGV: token, milliseconds of the lock, key, state before, state after,
-- message, what the producer remembers, seconds for that, binding, queue.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'lost'
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local state = redis.call('HGET', KEYS[2], ARGV[3])
if state == ARGV[5] then
  -- the answer to an earlier call got lost
  return 'sent'
end
if state ~= ARGV[4] then
  return 'changed'
end
redis.call('SADD', KEYS[5], ARGV[9])
redis.call('SADD', KEYS[6], ARGV[10])
redis.call('LPUSH', KEYS[3], ARGV[6])
redis.call('HSET', KEYS[2], ARGV[3], ARGV[5])
redis.call('SET', KEYS[4], ARGV[7], 'EX', ARGV[8])
return 'sent'
