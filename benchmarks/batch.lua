-- wrk script: POST /transform/batch with 1,024 random queries, uniform in length and letters.
-- The environment has the rule: ALPHABET its letters, with blanks between, and MAX_LENGTH.
local letters, max_length = {}, tonumber(os.getenv("MAX_LENGTH"))
for letter in os.getenv("ALPHABET"):gmatch("%S+") do
  table.insert(letters, letter)
end

function init()
  math.randomseed(os.time())
  local queries = {}
  for i = 1, 1024 do
    local query = {}
    for j = 1, math.random(1, max_length) do
      query[j] = letters[math.random(#letters)]
    end
    queries[i] = '"' .. table.concat(query) .. '"'
  end
  local body = '{"queries":[' .. table.concat(queries, ",") .. "]}"
  wrk.method, wrk.path, wrk.body = "POST", "/transform/batch", body
  wrk.headers["Content-Type"] = "application/json"
  prepared = wrk.format()
end

function request()
  return prepared
end
