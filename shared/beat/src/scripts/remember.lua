-- Notes entries that are seen for the first time.
-- KEYS: lock, entries. ARGV: token, then pairs of key and first state.
-- Gives the states of the keys in their order; nil to whoever lost the lock.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return false
end
local states = {}
for at = 2, #ARGV, 2 do
  redis.call('HSETNX', KEYS[2], ARGV[at], ARGV[at + 1])
  states[#states + 1] = redis.call('HGET', KEYS[2], ARGV[at])
end
return states
