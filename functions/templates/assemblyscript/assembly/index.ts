// What the gateway calls.
export { tg_abi_1, tg_buffer, tg_init, tg_handle } from "./tidegate";
