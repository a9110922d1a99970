// As little as Node-RED can be: no editor, no projects, nothing sent home.
module.exports = {
  flowFile: "flow.json",
  uiHost: "127.0.0.1",
  uiPort: HTTP_PORT,
  httpAdminRoot: false,
  httpNodeRoot: false,
  telemetry: { enabled: false },
  logging: { console: { level: "warn", metrics: false, audit: false } },
};
