-- Forgets entries that are not there any more. KEYS: lock, entries. ARGV: token, then the keys that are to stay.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local stay = {}
for at = 2, #ARGV do
  stay[ARGV[at]] = true
end
local gone = 0
for _, key in ipairs(redis.call('HKEYS', KEYS[2])) do
  if not stay[key] then
    gone = gone + redis.call('HDEL', KEYS[2], key)
  end
end
return gone
