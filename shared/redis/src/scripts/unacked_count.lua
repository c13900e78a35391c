-- KEYS: unacked   Gives [tail, count, tail, count, …], a tail being what follows the envelope: `, "exchange", "key"]`.
-- The envelopes themselves, which may be long, are neither read nor sent.
local counts, out = {}, {}
for _, text in ipairs(redis.call('HVALS', KEYS[1])) do
  local tail = string.match(string.sub(text, -2048), '^.*}(,%s*".*)$') or ''
  counts[tail] = (counts[tail] or 0) + 1
end
for tail, count in pairs(counts) do
  out[#out + 1] = tail
  out[#out + 1] = count
end
return out
