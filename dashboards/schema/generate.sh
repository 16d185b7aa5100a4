#!/usr/bin/env bash
# Writes classic.json, the JSON Schema of classic.ts, from Grafana's types (needs npm). Versions are pinned: another one is a change
# to look at.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
grafana=@grafana/schema@13.2.3
generator=ts-json-schema-generator@2.9.0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/classic.ts" "$work/"
cd "$work"
npm init --yes >/dev/null
npm install --no-audit --no-fund --ignore-scripts --silent "$grafana" "$generator"
cat >tsconfig.json <<'JSON'
{"compilerOptions": {"strict": true, "skipLibCheck": true, "module": "esnext", "moduleResolution": "node", "target": "es2022"}}
JSON
npx --no-install ts-json-schema-generator --path classic.ts --type Classic --tsconfig tsconfig.json \
    --no-type-check --expose none --minify --out raw.json
node - "$grafana" "$generator" "$here/classic.json" <<'JS'
const fs = require('fs');
const [grafana, generator, out] = process.argv.slice(2);
const schema = JSON.parse(fs.readFileSync('raw.json', 'utf8'));
// Words for people are left in the types that they come from.
const bare = (value) => {
  if (Array.isArray(value)) return value.map(bare);
  if (value === null || typeof value !== 'object') return value;
  const words = (key, inner) => ['description', 'title', 'default', '$comment'].includes(key) && (typeof inner !== 'object' || key === 'default');
  return Object.fromEntries(Object.entries(value).filter(([key, inner]) => !words(key, inner)).map(([key, inner]) => [key, bare(inner)]));
};
const { $schema, ...rest } = bare(schema);
const comment = `Made by generate.sh from classic.ts and the types of ${grafana} (Copyright Grafana Labs, Apache-2.0) with ${generator}.`;
// A property of the dashboard a line, so that a change can be read.
const { properties, ...classic } = rest.definitions.Classic;
const line = ([name, definition]) => `${JSON.stringify(name)}:${JSON.stringify(definition)}`;
const head = { $schema, $comment: comment, ...classic };
const lines = Object.entries(head).map(line);
fs.writeFileSync(out, `{${lines.join(',\n')},\n"properties":{\n${Object.entries(properties).map(line).join(',\n')}\n}}\n`);
JS
echo "$here/classic.json"
