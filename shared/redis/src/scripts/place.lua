-- Messages that were fetched without the script that records them are each in a key of its own (long.rs, blocking.rs). Its delivery
-- tag is `fetched:<token>:<number>:<queue>`. Scripts that look there begin with this. KEYS: unacked, …
-- Gives the message, the queue it came from and the key; no message where none came yet.
local function place(tag)
    local queue = string.match(tag, '^fetched:[^:]*:[^:]*:(.*)$')
    if not queue then return end
    local key = string.match(KEYS[1], '^(.*)unacked$') .. 'petiole:' .. tag
    return redis.call('LINDEX', key, 0) or nil, queue, key
end
