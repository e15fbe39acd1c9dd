-- One step of an account's pace, as in pace.rs, for many hosts. Times are µs; times of the caller are spans, so that
-- no clock but this server's counts.
--
-- KEYS: the log of turns (a sorted set, by time), the facts (a hash). ARGV: the step, as JSON.
-- Gives: wait, whether the turn is reserved, epoch, now, turns in the log, share, paused for; and what to make of it:
-- 0 - it counts; 1 - nothing was done, because the clock seems to have stepped; 2 - the log is not whole.
local step = cjson.decode(ARGV[1])
local log, facts_key = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Lua would write a large number with 14 digits.
local function whole(number)
  return string.format('%.0f', number)
end

local facts = {}
local flat = redis.call('HGETALL', facts_key)
for i = 1, #flat, 2 do
  facts[flat[i]] = tonumber(flat[i + 1])
end
local function set(name, value)
  facts[name] = value
  redis.call('HSET', facts_key, name, whole(value))
end

-- An epoch is a log without a gap. One begins when the last was lost (flushed, failed over to a server that lagged) or
-- cannot be read any more (the clock stepped). Whoever knew the last tells of it that way, and then the log is not
-- whole for a window: what was granted before is not known. Those who were there go on with their part of the rates,
-- newcomers wait.
--
-- A clock that stepped looks just like a question that was long on its way, from a caller who is gone. So he is asked:
-- only one who is there can confirm it.
local has_stepped = step.expected and math.abs(now - step.expected) > step.tolerance
if facts.epoch and has_stepped and not step.confirmed then
  return { 0, 0, whole(facts.epoch), whole(now), 0, 0, 0, 1 }
end
if not facts.epoch or has_stepped then
  redis.call('DEL', log)
  redis.call('HDEL', facts_key, 'held', 'paused', 'paid', 'cut')
  facts = { share = facts.share }
  set('epoch', now)
  if facts.share then
    set('cut', now)
  end
end
if step.epoch and step.epoch ~= facts.epoch then
  set('held', facts.epoch + step.window)
end

local function share()
  if not facts.cut then
    return facts.share or 1000
  end
  return math.min(1000, facts.share + 10 * math.floor(math.max(0, now - facts.cut) / 10000000))
end

local is_charged = step.bytes_per_second and step.bytes and step.bytes > 0

-- When the bytes of a turn are paid for, if those before it are at `before`.
local function paid_at(before, turn, bytes)
  if bytes == 0 or not step.bytes_per_second then
    return before
  end
  return math.max(before, turn) + math.floor(bytes * 1000000 / step.bytes_per_second)
end

-- A turn is its kind, whose it is, and how many bytes it sends.
local function member(kind, id, bytes)
  return kind .. ':' .. id .. ':' .. whole(bytes)
end

local kinds, turns, sizes
local function read(from, to)
  kinds, turns, sizes = {}, {}, {}
  local found = redis.call('ZRANGE', log, from, to, 'BYSCORE', 'WITHSCORES')
  for i = 1, #found, 2 do
    local kind, bytes = found[i]:match('^(%d+):%d+:(%d+)')
    kinds[#kinds + 1], sizes[#sizes + 1] = tonumber(kind), tonumber(bytes)
    turns[#turns + 1] = tonumber(found[i + 1])
  end
end

-- What is forgotten is still paid for.
local past = whole(now - step.span)
if step.bytes_per_second then
  read('-inf', past)
  local paid = facts.paid or 0
  for i = 1, #turns do
    paid = paid_at(paid, turns[i], sizes[i])
  end
  if paid > (facts.paid or 0) then
    set('paid', paid)
  end
end
redis.call('ZREMRANGEBYSCORE', log, '-inf', past)
-- A caller that asks again never took its turn: its answer was lost, or it came too late for it.
if step.op == 'reserve' or step.op == 'release' then
  redis.call('ZREM', log, member(step.kind, step.id, step.bytes))
end
read('-inf', '+inf')

local function is_upload(kind)
  return kind % 2 == 1
end

local function is_bulk(kind)
  return kind >= 2
end

-- The first moment from `turn` on at which one more breaks nothing: any `count` turns that lie within a window forbid
-- the moments that would make it one too many.
local function first_free(limit, turn)
  local counted = {}
  for i = 1, #turns do
    if limit.counts(kinds[i]) then
      counted[#counted + 1] = turns[i]
    end
  end
  for i = 1, #counted - limit.count + 1 do
    local first, last = counted[i], counted[i + limit.count - 1]
    if last - first < limit.window and last - limit.window < turn and turn < first + limit.window then
      turn = first + limit.window
    end
  end
  return turn
end

local function limits(kind)
  local found = {}
  local function add(rate, percent, counts)
    local count = math.floor(math.floor(rate.requests * share() / 1000) * percent / 100)
    found[#found + 1] = { count = math.max(1, count), window = rate.window, counts = counts }
  end
  if step.requests then
    add(step.requests, 100, function() return true end)
    local has_bulk = is_bulk(kind)
    for i = 1, #kinds do
      has_bulk = has_bulk or is_bulk(kinds[i])
    end
    if has_bulk then
      add(step.requests, 80, function(other) return is_bulk(other) == is_bulk(kind) end)
    end
  end
  if step.uploads and is_upload(kind) then
    add(step.uploads, 100, is_upload)
  end
  return found
end

local function turn_of(kind)
  local turn = math.max(now, facts.held or 0, facts.paused or 0)
  if is_charged then
    local paid = facts.paid or 0
    for i = 1, #turns do
      paid = paid_at(paid, turns[i], sizes[i])
    end
    turn = math.max(turn, paid)
  end
  local all = limits(kind)
  local function free_of_all(from)
    repeat
      local before = from
      for i = 1, #all do
        from = first_free(all[i], from)
      end
    until from == before
    return from
  end
  -- Whoever came before for the same goes before, even where a moment was left free between.
  local first = turn
  for i = #turns, 1, -1 do
    if kinds[i] == kind then
      first = math.max(turn, turns[i])
      break
    end
  end
  local free = free_of_all(first)
  if free > turn and step.requests and step.requests.spacing then
    all[#all + 1] = { count = 1, window = step.requests.spacing, counts = function() return true end }
    free = free_of_all(free)
  end
  return free
end

local is_whole = now >= (facts.held or 0)
local wait, is_reserved = 0, 0
if step.op == 'reserve' and (is_whole or step.is_new) then
  local turn = turn_of(step.kind)
  wait = turn - now
  if wait <= step.patience then
    is_reserved = 1
    if step.requests or (step.uploads and is_upload(step.kind)) or is_charged then
      redis.call('ZADD', log, whole(turn), member(step.kind, step.id, step.bytes))
      turns[#turns + 1] = turn
    end
  end
elseif step.op == 'pause' then
  set('paused', math.max(facts.paused or 0, now + step.wait))
elseif step.op == 'throttled' then
  if not facts.cut or now - facts.cut >= 10000000 then
    local cut = math.max(100, math.floor(share() * 70 / 100))
    set('cut', now)
    set('share', cut)
  end
elseif step.op == 'recall' then
  for _, grant in ipairs(step.grants) do
    turns[#turns + 1] = now - grant.age
    redis.call('ZADD', log, whole(now - grant.age), member(grant.kind, grant.id, grant.bytes))
  end
end

local furthest = now
for i = 1, #turns do
  furthest = math.max(furthest, turns[i])
end
redis.call('PEXPIRE', log, whole(math.ceil((furthest - now + 2 * step.window) / 1000) + 1000))
redis.call('PEXPIRE', facts_key, 86400000)
local paused = math.max(0, math.max(facts.held or 0, facts.paused or 0) - now)
return { whole(wait), is_reserved, whole(facts.epoch), whole(now), #turns, share(), whole(paused), is_whole and 0 or 2 }
