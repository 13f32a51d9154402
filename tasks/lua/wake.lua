-- Takes a host that waits to come online to the state sent, before it is sent to.
--
-- KEYS  1 {AC131}:meta  2 {AC131}:hosts  3 {AC131}:awaiting  4 {AC131}:sends
-- ARGV  1 the host
--
-- Returns {verdict, created_ms}, the verdict one of
--   'send'  it is to be sent to
--   'keep'  the set is still being prepared
--   'drop'  it does not wait (any more), or the set is over or gone
local m = redis.call('HMGET', KEYS[1], 'state', 'deadline_ms', 'expire_ms', 'created_ms', 'cancelled_ms', 'retry_ms')
local now = now_ms()
if m[1] == 'preparing' and now < tonumber(m[2]) then
  return { 'keep', m[4] }
end
if not m[1] or m[5] or now >= tonumber(m[2]) or redis.call('HGET', KEYS[2], ARGV[1]) ~= 'waiting' then
  return { 'drop', '' }
end
write_states({ [ARGV[1]] = { 'waiting', 'sent' } }, m[3])
redis.call('HSET', KEYS[4], ARGV[1], '1:' .. whole(now + tonumber(m[6] or 3000)) .. '@' .. whole(now))
expire_new(KEYS[4], m[3])
return { 'send', m[4] }
