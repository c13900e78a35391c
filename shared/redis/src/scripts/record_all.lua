-- KEYS: unacked, unacked_index   ARGV: tags
for _, tag in ipairs(ARGV) do record(tag) end
