//! One instance of a module, and the calls into it.

use crate::failure::{Failure, Outcome, StartFailure, Verdict};
use crate::imports::{Guest, TooManyHostCalls};
use crate::{Level, Limits, Secrets, State, mask};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_abi::{
    BatchHeader, BatchRandom, BatchReader, HandleResult, Operation, OutputReader, export,
};
use wasmi::{Memory, Store, TrapCode, TypedFunc, TypedResumableCall, WasmParams, WasmResults};

/// A started function. It may go to another thread, but runs on one at a time.
pub struct Instance {
    store: Store<Guest>,
    memory: Memory,
    buffer: TypedFunc<i32, i32>,
    handle: TypedFunc<(i32, i32), i64>,
    stop: Option<TypedFunc<(), ()>>,
    spent: bool,
}

impl Instance {
    /// Looks up the exports and runs `_initialize` and `tg_init`.
    pub(crate) fn start(
        mut store: Store<Guest>,
        instance: &wasmi::Instance,
        config: &[u8],
    ) -> Result<Self, StartFailure> {
        let failed =
            |text: String| StartFailure { failure: Failure::Trap { text }, logs: Vec::new() };
        let missing = |error: wasmi::Error| failed(error.to_string());
        let memory = instance
            .get_memory(&store, export::MEMORY)
            .ok_or_else(|| failed("the export `memory` is gone".to_owned()))?;
        let buffer = instance.get_typed_func(&store, export::BUFFER).map_err(missing)?;
        let handle = instance.get_typed_func(&store, export::HANDLE).map_err(missing)?;
        let init = instance.get_typed_func(&store, export::INIT).map_err(missing)?;
        let initialize = instance.get_typed_func(&store, export::INITIALIZE).ok();
        let stop = instance.get_typed_func(&store, export::STOP).ok();
        store.data_mut().memory = Some(memory);
        let mut this = Self { store, memory, buffer, handle, stop, spent: false };
        this.first_calls(init, initialize, config)
            .map_err(|failure| StartFailure { failure, logs: this.take_logs() })?;
        // Nobody waits for what a started instance had to say; the next call begins afresh.
        this.take_logs();
        Ok(this)
    }

    fn first_calls(
        &mut self,
        init: TypedFunc<(i32, i32), i32>,
        initialize: Option<TypedFunc<(), ()>>,
        config: &[u8],
    ) -> Result<(), Failure> {
        let limits = self.limits();
        let mut budget = Budget::new(limits.first_call_fuel, limits.start_deadline);
        if let Some(initialize) = initialize {
            self.run(initialize, (), &mut budget)?;
        }
        let arguments = self.hand_over(config, &mut budget)?;
        match self.run(init, arguments, &mut budget)? {
            0 => Ok(()),
            code => Err(Failure::Configuration { code }),
        }
    }

    /// Gives the guest a batch. `frame` is an input frame, `state` the function's state as
    /// committed before it; the instance gives its share of it back before it returns.
    ///
    /// After [`Verdict::Failed`] every further call fails with [`Failure::Spent`].
    pub fn call(&mut self, frame: &[u8], state: Arc<State>) -> Outcome {
        let started = Instant::now();
        let mut budget = Budget::new(0, self.limits().deadline);
        let verdict = self.handle(frame, state, &mut budget).unwrap_or_else(Verdict::Failed);
        self.store.data_mut().state = None;
        self.spent |= matches!(verdict, Verdict::Failed(_));
        Outcome {
            verdict,
            fuel: budget.used,
            elapsed: started.elapsed(),
            memory_bytes: self.memory_bytes(),
            logs: self.take_logs(),
        }
    }

    /// From the next call on, the guest reads these.
    pub fn give_secrets(&mut self, secrets: Arc<Secrets>) {
        self.store.data_mut().secrets = secrets;
    }

    /// Runs `tg_stop`, where there is one, and ends the instance.
    ///
    /// # Errors
    /// When the guest fails; there is nothing left to do about it but to report it.
    pub fn stop(mut self) -> Result<(), Failure> {
        let Some(stop) = self.stop.take().filter(|_| !self.spent) else { return Ok(()) };
        let limits = self.limits();
        let mut budget = Budget::new(limits.fuel_per_batch, limits.deadline);
        self.run(stop, (), &mut budget)
    }

    /// Asks for a buffer alone, and checks that it is inside the memory.
    pub(crate) fn buffer(&mut self, bytes: usize) -> Result<(), Failure> {
        let limits = self.limits();
        let mut budget = Budget::new(limits.fuel_per_batch, limits.deadline);
        self.hand_over(&vec![0; bytes], &mut budget).map(|_| ())
    }

    /// Linear memory, bytes.
    pub fn memory_bytes(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    fn handle(
        &mut self,
        frame: &[u8],
        state: Arc<State>,
        budget: &mut Budget,
    ) -> Result<Verdict, Failure> {
        if self.spent {
            return Err(Failure::Spent);
        }
        let header = BatchReader::parse(frame).map_err(Failure::BadInput)?.header();
        budget.allow(self.fuel_for(header.count));
        self.begin(header, state);
        let arguments = self.hand_over(frame, budget)?;
        let code = self.run(self.handle, arguments, budget)?;
        match HandleResult::from_code(code) {
            HandleResult::Done => Ok(Verdict::Done(Vec::new())),
            HandleResult::Output { ptr, len } => {
                self.output(ptr as usize, len as usize, header.count).map(Verdict::Done)
            }
            HandleResult::Retry => Ok(Verdict::RetryBatch),
            HandleResult::DeadLetter => Ok(Verdict::DeadLetterBatch),
            HandleResult::Failed(code) => Err(Failure::Refused { code }),
        }
    }

    fn limits(&self) -> &Limits {
        &self.store.data().limits
    }

    fn fuel_for(&self, messages: u32) -> u64 {
        let limits = self.limits();
        limits
            .fuel_per_message
            .saturating_mul(messages.into())
            .saturating_add(limits.fuel_per_batch)
    }

    fn begin(&mut self, header: BatchHeader, state: Arc<State>) {
        let guest = self.store.data_mut();
        guest.state = Some(state);
        guest.now_ns = header.now_ns;
        guest.random = BatchRandom::new(header.batch_id);
        guest.host_calls = 0;
        guest.last_words = None;
    }

    /// Asks for a buffer and copies the bytes there: the one copy in.
    fn hand_over(&mut self, bytes: &[u8], budget: &mut Budget) -> Result<(i32, i32), Failure> {
        let too_long = Failure::MemoryLimit { wanted: bytes.len(), limit: self.memory_bytes() };
        let len = i32::try_from(bytes.len()).map_err(|_| too_long)?;
        let ptr = self.run(self.buffer, len, budget)?;
        let at = ptr as u32 as usize;
        // The memory may have grown, and moved, during the call: look at it only now.
        let memory = self.memory.data_mut(&mut self.store);
        let size = memory.len();
        match at.checked_add(bytes.len()).and_then(|end| memory.get_mut(at..end)) {
            Some(target) => target.copy_from_slice(bytes),
            None => return Err(Failure::BadBuffer { at, bytes: bytes.len(), memory: size }),
        }
        Ok((ptr, len))
    }

    /// Copies the output frame out and checks it.
    fn output(&self, at: usize, bytes: usize, count: u32) -> Result<Vec<u8>, Failure> {
        let limit = self.limits().output_bytes;
        if bytes > limit {
            return Err(Failure::OutputTooLarge { bytes, limit });
        }
        let memory = self.memory.data(&self.store);
        let frame = at
            .checked_add(bytes)
            .and_then(|end| memory.get(at..end))
            .ok_or(Failure::OutputOutOfMemory { at, bytes, memory: memory.len() })?;
        let output = OutputReader::parse(frame).map_err(Failure::BadOutput)?;
        for operation in output.iter() {
            if let Operation::Nack { index, .. } = operation
                && index >= count
            {
                return Err(Failure::NackIndex { index, count });
            }
        }
        let masked = mask::masked(&output, &self.store.data().secrets);
        let masked = masked.map_err(|_| Failure::OutputTooLarge { bytes, limit })?;
        Ok(masked.unwrap_or_else(|| frame.to_vec()))
    }

    fn take_logs(&mut self) -> Vec<(Level, String)> {
        let guest = self.store.data_mut();
        guest.logs.take(guest.limits.log_bytes)
    }

    /// Runs a function of the guest to its end, slice by slice.
    fn run<P: WasmParams, R: WasmResults>(
        &mut self,
        function: TypedFunc<P, R>,
        params: P,
        budget: &mut Budget,
    ) -> Result<R, Failure> {
        let mut slice = self.begin_slice(0, budget)?;
        let mut step = function.call_resumable(&mut self.store, params);
        loop {
            self.end_slice(slice, budget)?;
            let call = step.map_err(|error| self.failure_of(&error))?;
            match call {
                TypedResumableCall::Finished(results) => return Ok(results),
                TypedResumableCall::HostTrap(trap) => {
                    return Err(self.failure_of(trap.host_error()));
                }
                TypedResumableCall::OutOfFuel(halted) => {
                    budget.check_deadline()?;
                    slice = self.begin_slice(halted.required_fuel(), budget)?;
                    step = halted.resume(&mut self.store);
                }
            }
        }
    }

    /// Fuels the store for the next slice: at least what the next instruction needs.
    fn begin_slice(&mut self, required: u64, budget: &Budget) -> Result<u64, Failure> {
        let left = budget.left();
        if left == 0 || left < required {
            return Err(Failure::OutOfFuel { fuel: budget.fuel });
        }
        let slice = self.limits().fuel_slice.max(required).min(left);
        self.store.set_fuel(slice).map_err(|error| self.failure_of(&error))?;
        Ok(slice)
    }

    fn end_slice(&mut self, slice: u64, budget: &mut Budget) -> Result<(), Failure> {
        let left = self.store.get_fuel().map_err(|error| self.failure_of(&error))?;
        let debt = std::mem::take(&mut self.store.data_mut().fuel_debt);
        budget.used = budget.used.saturating_add(slice - left.min(slice)).saturating_add(debt);
        Ok(())
    }

    fn failure_of(&self, error: &wasmi::Error) -> Failure {
        let guest = self.store.data();
        let limits = &guest.limits;
        if error.downcast_ref::<TooManyHostCalls>().is_some() {
            return Failure::HostCalls { limit: limits.host_calls };
        }
        match error.as_trap_code() {
            Some(TrapCode::StackOverflow) => Failure::StackOverflow { depth: limits.stack_depth },
            Some(TrapCode::GrowthOperationLimited | TrapCode::OutOfSystemMemory) => {
                Failure::MemoryLimit {
                    wanted: guest.refused_memory.unwrap_or(limits.memory_bytes),
                    limit: limits.memory_bytes,
                }
            }
            _ => match &guest.last_words {
                Some(words) => Failure::Trap { text: format!("{words} ({error})") },
                None => Failure::Trap { text: error.to_string() },
            },
        }
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("memory_bytes", &self.memory_bytes())
            .field("spent", &self.spent)
            .finish_non_exhaustive()
    }
}

/// Fuel and time of one call, over all the functions that it runs in the guest.
struct Budget {
    fuel: u64,
    used: u64,
    started: Instant,
    deadline: Duration,
}

impl Budget {
    fn new(fuel: u64, deadline: Duration) -> Self {
        Self { fuel, used: 0, started: Instant::now(), deadline }
    }

    fn allow(&mut self, fuel: u64) {
        self.fuel = fuel;
    }

    fn left(&self) -> u64 {
        self.fuel.saturating_sub(self.used)
    }

    fn check_deadline(&self) -> Result<(), Failure> {
        let elapsed = self.started.elapsed();
        if elapsed > self.deadline {
            return Err(Failure::Deadline { deadline: self.deadline, elapsed });
        }
        Ok(())
    }
}
