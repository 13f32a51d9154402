-- Writes hosts into a task set that is being prepared. A host that is in it already
-- keeps its state, so that the same hosts may come twice.
--
-- KEYS  1 {AC131}:meta  2 {AC131}:hosts  3 {AC131}:awaiting
-- ARGV  host, state, host, state, ... (state: sent, offline or waiting)
--
-- Returns 1; -1 if the set is not being prepared, or was cancelled, and then nothing is
-- written.
local m = redis.call('HMGET', KEYS[1], 'state', 'expire_ms', 'cancelled_ms')
if m[1] ~= 'preparing' or m[3] then
  return -1
end
local hosts, changes = {}, {}
for i = 1, #ARGV, 2 do
  hosts[#hosts + 1] = ARGV[i]
end
local states = states_of(hosts)
for i = 1, #ARGV, 2 do
  if not states[ARGV[i]] and not changes[ARGV[i]] then
    changes[ARGV[i]] = { false, ARGV[i + 1] }
  end
end
write_states(changes, m[2])
return 1
