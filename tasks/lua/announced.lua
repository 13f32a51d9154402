-- Notes that the end of a task set was announced, and who has counted it: one caller of
-- all, however many announce it. A set that is gone stays gone.
--
-- KEYS  1 {AC131}:meta
-- ARGV  1 a token of the caller's own, so that a call whose answer was lost may be
--         repeated; '' if the caller does not count
--
-- Returns 1 if the caller is the one who counts the set, else 0.
local mark = redis.call('HGET', KEYS[1], 'announced')
if not mark and redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
if not mark or mark == 'uncounted' then
  mark = ARGV[1] ~= '' and ARGV[1] or 'uncounted'
  redis.call('HSET', KEYS[1], 'announced', mark)
end
return mark == ARGV[1] and 1 or 0
