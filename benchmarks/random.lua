-- wrk script: POST /transform with random queries, uniform in length and letters.
-- The environment has the rule: ALPHABET its letters, with blanks between, and MAX_LENGTH.
local letters, max_length = {}, tonumber(os.getenv("MAX_LENGTH"))
for letter in os.getenv("ALPHABET"):gmatch("%S+") do
  table.insert(letters, letter)
end

function init()
  math.randomseed(os.time())
end

function request()
  local query = {}
  for i = 1, math.random(1, max_length) do
    query[i] = letters[math.random(#letters)]
  end
  local body = '{"query":"' .. table.concat(query) .. '"}'
  return wrk.format("POST", "/transform", { ["Content-Type"] = "application/json" }, body)
end
