-- Messages that were fetched without the script that records them are each in a key of its own, before the queue that it came
-- from (long.rs, blocking.rs). Scripts that look there begin with this. KEYS: unacked, …
-- Gives the message and its queue; no message when there is the queue alone: nothing came yet.
local function place(tag)
    if string.sub(tag, 1, 8) ~= 'fetched:' then return end
    local key = string.match(KEYS[1], '^(.*)unacked$') .. 'petiole:' .. tag
    local message, queue = unpack(redis.call('LRANGE', key, 0, 1))
    if queue or not message then return message, queue, key end
    -- One that came when its place had been given up stands alone, and tells itself where it was sent.
    local is_read, envelope = pcall(cjson.decode, message)
    local properties = is_read and type(envelope) == 'table' and envelope.properties
    local info = type(properties) == 'table' and properties.delivery_info
    if type(info) == 'table' and type(info.routing_key) == 'string' then return message, info.routing_key, key end
    return nil, message, key
end
