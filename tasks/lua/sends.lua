-- Counts a further send for each host of a task set whose time has come, before it is
-- sent to. A host that is not in {AC131}:sends was sent to once, when the set was
-- opened.
--
-- KEYS  1 {AC131}:meta  2 {AC131}:hosts  3 {AC131}:awaiting  4 {AC131}:sends
-- ARGV  1 'count', or 'give up': end those that have used up all their sends
--       2... hosts, at most a few hundred
--
-- Returns {over, now_ms, next_ms, host, verdict, ...}: over as in expire.lua; next_ms
-- is when the next of these hosts is due, '' if none is; a host that is not due is left
-- out. The verdicts:
--   'send'   it is to be sent to, if it is an agent
--   'asked'  it is to be sent to, whoever it is: it has asked for that
--   'spent'  it has used up its sends, and the wait after the last is over
local m = redis.call('HMGET', KEYS[1], 'state', 'deadline_ms', 'expire_ms', 'cancelled_ms',
  'sent_ms', 'retry_ms', 'attempts')
local now = now_ms()
if m[1] ~= 'open' or now >= tonumber(m[2]) or m[4] then
  return { 0, whole(now), '' }
end
local first, wait, most = tonumber(m[5] or 0), tonumber(m[6] or 3000), tonumber(m[7] or 5)
local hosts = {}
for i = 2, #ARGV do
  hosts[#hosts + 1] = ARGV[i]
end
local states = states_of(hosts)
local counted = #hosts > 0 and redis.call('HMGET', KEYS[4], unpack(hosts)) or {}

local next_ms
local changes, written, reply = {}, {}, {}
local function verdict(host, word)
  reply[#reply + 1] = host
  reply[#reply + 1] = word
end
for i, host in ipairs(hosts) do
  if states[host] == 'sent' then
    local sends, due, woken, asked = string.match(counted[i] or '', '^(%d+):(%d+)(@?%d*)(!?)$')
    sends = tonumber(sends or 1)
    due = tonumber(due or first + wait)
    asked = asked == '!'
    if asked and sends < most or due <= now and sends < most then
      -- The times follow from one another, so that a late step delays no later one;
      -- but after a long break what was missed is not made up for all at once.
      local pause = wait * 2 ^ sends
      if asked or now - due > pause then
        due = now
      end
      sends, due = sends + 1, due + pause
      written[#written + 1] = host
      written[#written + 1] = sends .. ':' .. whole(due) .. (woken or '')
      verdict(host, asked and 'asked' or 'send')
    elseif due <= now then
      if ARGV[1] == 'give up' then
        changes[host] = { 'sent', 'unanswered' }
      end
      verdict(host, 'spent')
    end
    if due > now and (not next_ms or due < next_ms) then
      next_ms = due
    end
  end
end
if #written > 0 then
  redis.call('HSET', KEYS[4], unpack(written))
  expire_new(KEYS[4], m[3])
end
write_states(changes, m[3])
return { next(changes) and close_if_over(now) or 0, whole(now), next_ms and whole(next_ms) or '', unpack(reply) }
