-- A long message that was fetched and is in no other key yet (long.rs): into unacked, as if it had been fetched by the script.
-- Scripts that need it there begin with this. KEYS: unacked, unacked_index, …
local function record(tag)
    if string.sub(tag, 1, 8) ~= 'fetched:' then return end
    local key = string.match(KEYS[1], '^(.*)unacked$') .. 'petiole:' .. tag
    local message, queue = unpack(redis.call('LRANGE', key, 0, 1))
    redis.call('DEL', key)
    if not queue then return end
    local now = redis.call('TIME')
    redis.call('HSET', KEYS[1], tag, '[' .. message .. ', "", ' .. cjson.encode(queue) .. ']')
    redis.call('ZADD', KEYS[2], now[1] .. '.' .. string.format('%06d', now[2]), tag)
end
