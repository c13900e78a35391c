-- A message that was fetched and is in no other key yet: into unacked, as if it had been fetched by the script.
-- Scripts that need it there begin with this, behind place.lua. KEYS: unacked, unacked_index, …
local function record(tag)
    local message, queue, key = place(tag)
    if not message then return end
    redis.call('DEL', key)
    local now = redis.call('TIME')
    redis.call('HSET', KEYS[1], tag, '[' .. message .. ', "", ' .. cjson.encode(queue) .. ']')
    redis.call('ZADD', KEYS[2], now[1] .. '.' .. string.format('%06d', now[2]), tag)
end
