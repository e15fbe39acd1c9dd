-- Replaces a piece of state, if it is still what the caller saw last; with nothing to put there, only looks.
-- KEYS: the piece. ARGV: as it was seen, as it is to be, its life in ms. Gives whether it was replaced, the time in µs,
-- and the piece as it is, if it was not.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local there = redis.call('GET', KEYS[1]) or ''
if ARGV[2] == '' or there ~= ARGV[1] then
  return {0, now, there}
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return {1, now, ''}
